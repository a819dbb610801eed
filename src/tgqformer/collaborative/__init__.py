"""Item embeddings from behaviour: LightGCN, NGCF, SASRec, PinSage, and the counting baselines that shops use."""
