"""Process 1: the Storage SCP that takes studies in, and the dispatcher that turns complete studies into jobs."""
