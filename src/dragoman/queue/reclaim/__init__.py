"""Space given back: trims, compaction, META rewritten."""
