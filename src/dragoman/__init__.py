"""dragoman: an interpreter between programs that do not share a language."""
