"""search: which settings of the campus block are worth it, by trials that held-out rows rank. Start at `hunt`.

settings    the `search:` block           space     what may be tried, and what of it goes together
sampler     which points are tried next   halving   how far each trial is trained, and which schedules allow that
winner      is the best one better than luck: the rule by which there is none
"""
