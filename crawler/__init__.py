"""The crawler: reads a Hugging Face Hub. Knows nothing of lineage or of the database."""
