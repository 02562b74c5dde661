"""From the queue to the carriers and back: claiming, sending, results, receipts, doubt."""
