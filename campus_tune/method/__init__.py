"""method: what is trained next. numpy only, and every policy a pure function of one View.

Start here. A stage comes about in this sequence, one file for each step:

    orders       scores → a permutation of the rows, easy → hard
    pacing       progress → how far an order is open
    phases       whether anything is offered at this step, or the rows are plainly shuffled
    pools        what could be given: the rows that each order offers next
    passes       what may still be drawn of them
    shares       which part of a stage each domain gets, and when (phases of shares)
    thin         how likely each row is to be taken that is offered, where more are offered than trained
    review       which rows come back
    view         all that a policy is shown: position, offers, history, measurements
    selectors    which offer is taken (`race`: on how few measured rows that can be told)
    free_losses  what the rows just trained say of the offers, where nothing pays for measuring these
    decide       the decision itself, the same for a run and for `simulate`
    curriculum   opens the stage that was decided, and remembers

Under a policy (who and which) that last step is taken apart:

    policy       what holds at a moment: strata, shares, phases, thinning, review, what is dropped
    apart        what a curriculum does otherwise under it, and remembers
    draws        a stage's rows: lanes × strata × thinning (`walks` finds candidates, `thinning` takes some of them)
    book         what training has shown of each row, written when a stage is over: what the next draws go by
    pass_rates   what rewards have shown of each prompt, where a model is trained by reward: the book's counterpart
    prompt_scores   what of it prompts are drawn by (Thompson sampling, age)
    drawn        what there is to say of it

What steers it is a function of the record too, and changes only between two stages:

    estimates, probe_history   what the probes said, how sure that is, and what changed, paired over their rows
    rules                      what is seen in it: a milestone, stagnation, a regression; each time a `firing`
    rewards                    what each stage has gained, for selectors that learn from it (`selectors/bandits`)
    reweight                   shares that follow losses
    clock                      what progress is read from
    steering                   what all of these make of a plan, as it is now

Beside them: `stages` the pieces that these hand to each other, `sorting` and `masks` what orders and passes do with a
hundred million rows, `sampling` draws in proportion, `cells` rows of one kind and `standing` how a row stands among
them, `drop` how much may be left out for good, `competence` what probes say, `budget` what measuring may cost,
`grouping` and `stats` what ranking in groups does to an order, `excess` and `suspicion` what a row's losses have above
those of its kind, `learning` when it was learned.
"""
