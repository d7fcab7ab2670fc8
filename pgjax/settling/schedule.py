"""How many seeds each round has."""


def following(count: int, batch: int, most: int) -> int:
    """The number of seeds of the round after `count` seeds: batches of 1, 2, 3, 5, 8, 12, 18, ..., and then `most`."""
    batches = 1
    while batches * batch <= count:
        batches += (batches + 1) // 2
    return min(batches * batch, most)
