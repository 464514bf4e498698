"""How diverse a population is: Hill numbers, pedigrees, niches, entropy."""
