"""What a user does with a law: predict a variant, choose one, choose several, choose what to measure."""
