import cProfile, pstats
from tests.integration.test_resume_rescoring import *
def test_prof(tmp_path):
    trainer_of(tmp_path/"w").train()
    import os; os.environ["CAMPUS_TUNE_CACHE"]=str(tmp_path/"c2")
    p=cProfile.Profile(); p.enable(); t=trainer_of(tmp_path/"a"); t.train(); p.disable()
    pstats.Stats(p).sort_stats("cumtime").print_stats(70)
