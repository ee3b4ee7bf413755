# pyright: reportMissingImports=false
"""The same training by AutoMM: `training_automm.py JOB.json`, one JSON line {"val_loss": ...}; see training.py.

AutoMM reads rows as text and tokenises them while it trains. Its constant rate is a polynomial decay that ends where it
began. It keeps the best check and the last one; it writes no optimizer state with those that it averages.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace


def main() -> None:
    """Trains and prints the line."""
    import pandas
    from autogluon.multimodal import MultiModalPredictor
    from sklearn.metrics import log_loss

    job = SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text()))
    train, validation = (pandas.read_csv(Path(job.data) / f"{split}.csv") for split in ("train", "validation"))
    predictor = MultiModalPredictor(
        label="label", problem_type="binary", path=str(Path(job.out) / "automm"), verbosity=0
    )
    predictor.fit(
        train,
        tuning_data=validation,
        seed=0,
        hyperparameters={
            "model.names": ["hf_text"],
            "model.hf_text.checkpoint_name": job.model,
            "model.hf_text.text_trivial_aug_maxscale": 0.0,
            "model.hf_text.max_text_len": job.tokens,
            "optim.lr": job.lr,
            "optim.lr_choice": "",
            "optim.weight_decay": 0.0,
            "optim.lr_schedule": "polynomial_decay",
            "optim.end_lr": job.lr * 0.9999,
            "optim.warmup_steps": 0,
            "optim.max_epochs": 1,
            "optim.max_steps": job.steps,
            "optim.val_check_interval": job.every,
            "optim.top_k": 1,
            "optim.top_k_average_method": "best",
            "optim.patience": 1000,
            "env.batch_size": job.batch,
            "env.per_gpu_batch_size": job.batch,
            "env.precision": 32,
            "env.strategy": "auto",
        },
    )
    chances = predictor.predict_proba(validation, as_pandas=False)
    print(json.dumps({"val_loss": float(log_loss(validation["label"], chances))}), flush=True)


if __name__ == "__main__":
    main()
