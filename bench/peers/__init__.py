"""Other systems for the same purpose, measured on the same machine in the same way."""
