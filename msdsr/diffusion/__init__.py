"""The mathematics: schedule, row masks, objective, network, noise field, sampler."""
