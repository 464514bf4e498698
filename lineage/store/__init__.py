"""The only code that speaks SQL to the main database."""
