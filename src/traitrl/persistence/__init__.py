"""Does it last: prompt attacks, tuning attacks as dose ladders and drift, each with its twin, on any checkpoint."""
