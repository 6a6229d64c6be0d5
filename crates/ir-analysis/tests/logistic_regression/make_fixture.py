"""Writes fixture.json: what scikit-learn's multinomial logistic regression finds for a small set.

    pip install scikit-learn
    python make_fixture.py

Features are float32 numbers, so that both programs read the same; columns of very different sizes,
one nearly a copy of another, one constant. scikit-learn minimises
C * sum(cross-entropy) + |W|^2 / 2, so C = 1 / (lambda N) for our mean(cross-entropy) + lambda/2 |W|^2.
"""

import json
import pathlib

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

SAMPLES, CLASSES, PENALTY = 90, 4, 1e-3


def data(generator, samples):
    labels = generator.integers(0, CLASSES, samples)
    x = generator.standard_normal((samples, 6)) + 0.8 * np.eye(6)[labels]
    x[:, 3] = x[:, 2] + 0.01 * x[:, 3]
    x = x * [1.0, 100.0, 1e-3, 1e-3, 5.0, 1.0] + [0.0, -300.0, 0.5, 0.0, 2.0, 0.0]
    x[:, 5] = 7.0
    return x.astype(np.float32), labels


def losses(logits, labels):
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def main():
    generator = np.random.default_rng(20170404)
    train, train_labels = data(generator, SAMPLES)
    test, test_labels = data(generator, 40)
    mean, std = train.mean(axis=0, dtype=float), train.std(axis=0, dtype=float)
    std[5] = np.inf
    fit = LogisticRegression(C=1 / (PENALTY * SAMPLES), solver="newton-cg", tol=1e-12, max_iter=10000)
    fit.fit((train - mean) / std, train_labels)
    found = {"scikit-learn": sklearn.__version__, "splits": {}}
    for name, x, labels in (("train", train, train_labels), ("test", test, test_labels)):
        logits = fit.decision_function((x - mean) / std)
        found["splits"][name] = {
            "features": [[float(value) for value in row] for row in x],
            "labels": labels.tolist(),
            # A constant on all logits of a sample has no meaning.
            "logits": [[round(value, 9) for value in row - row.mean()] for row in logits],
            "accuracy": float((logits.argmax(axis=1) == labels).mean()),
            "loss": float(losses(logits, labels).mean()),
        }
    path = pathlib.Path(__file__).parent / "fixture.json"
    path.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
