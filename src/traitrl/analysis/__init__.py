"""Records to estimates, paired contrasts, false discovery control and covariates. Statistics read records only."""
