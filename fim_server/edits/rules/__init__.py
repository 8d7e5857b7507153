"""What may follow from an edit: one file a rule, all of them listed in `table.py`."""
