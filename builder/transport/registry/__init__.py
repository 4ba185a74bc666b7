"""Images at registries, by the distribution-spec 1.1: client, pushes, pulls and bases.

Nothing is imported here: what needs the network is loaded only where the network is used.
"""
