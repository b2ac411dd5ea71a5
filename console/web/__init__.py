"""Web pages, JSON API and metrics. They show and change nothing: there is no sign-in yet."""
