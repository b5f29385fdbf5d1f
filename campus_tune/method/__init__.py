"""method: what is trained next. numpy only, and every policy a pure function of what it is shown.

Start here: `stages` has the pieces (what is offered, what was opened), `orders` and `pacing` say how far each order is
open, `curriculum` turns both into offers and the rows of the chosen stage, `selectors` takes one of the offers.
"""
