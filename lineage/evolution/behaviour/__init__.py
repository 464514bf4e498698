"""What models say next, as alleles: distances, trees, and their agreement with the pedigree."""
