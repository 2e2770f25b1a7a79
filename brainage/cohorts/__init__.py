"""Read who was scanned: tables, BIDS folders, filters, splits."""
