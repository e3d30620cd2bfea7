"""Who answers for which child."""
