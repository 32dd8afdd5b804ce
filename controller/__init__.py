"""The controller: decides per frame what nodes cache, per slot who gets what."""
