"""The Streamlit pages and their drawing."""
