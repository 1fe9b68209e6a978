"""The benchmarks of the parts that stand alone; ``dragoman bench`` runs them."""
