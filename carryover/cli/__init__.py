"""The command line: the one door that KFP, Argo, a TrainJob and a shell all use."""
