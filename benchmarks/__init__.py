"""dragoman beside the programs one would use instead; each package here runs by itself."""
