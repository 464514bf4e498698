"""The population: traits, heritability, selection."""
