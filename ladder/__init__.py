"""The ladder: small language models whose knowledge is known exactly, in three strata."""
