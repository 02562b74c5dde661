"""The path of a message: HTTP in, PostgreSQL in the middle, SMPP out, receipts back. Never decides who leads."""
