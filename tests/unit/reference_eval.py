#!/usr/bin/python3
"""Reference values for tests/unit/eval.c, from scikit-learn, scipy and numpy.

    python3 tests/unit/reference_eval.py > tests/unit/reference_eval.h

Made with scikit-learn 1.2.1, scipy 1.10.1, numpy 1.24.2 (Debian 12: python3-sklearn). The data are 60 items of 4
overlapping classes in 5 folds, 10 features, two decimals, one feature constant; fold 5 is the test side.
"""
import warnings

import numpy as np
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("error")
rng = np.random.RandomState(7)
N, D, K = 60, 10, 4
y = np.arange(N) % K
fold = np.arange(N) // K % 5 + 1
centre = rng.randn(K, D) * 0.9
x = centre[y] + rng.randn(N, D) * np.linspace(0.6, 1.6, D) + rng.randn(N, 1)
x[:, 3] = 0.25
x = np.round(x, 2)
GRID = 10.0 ** np.arange(-4, 1.5, 0.5)


def emit(kind, name, v, fmt):
    v = np.asarray(v)
    dims = "".join("[%d]" % n for n in v.shape)
    print("static const %s %s%s = {" % (kind, name, dims))
    line = "   "
    for t in (fmt % e for e in v.ravel()):
        if len(line) + len(t) > 105:
            print(line)
            line = "   "
        line += " " + t + ","
    print(line + "\n};")


def flat(name, v, fmt="%.17g", kind="double"):
    emit(kind, name, np.asarray(v).ravel(), fmt)


def probe(c, rows, tol=1e-6):
    s = StandardScaler().fit(x[rows])
    m = LogisticRegression(C=c, multi_class="multinomial", solver="newton-cg", tol=tol,
                           max_iter=100000).fit(s.transform(x[rows]), y[rows])
    return s, m


def unit(a):
    return a / np.linalg.norm(a, axis=1, keepdims=True)


print("/* Written by tests/unit/reference_eval.py: do not edit. */")
print("enum { REF_N = %d, REF_DIM = %d, REF_CLASSES = %d, REF_TRAIN = %d, REF_TEST = %d };"
      % (N, D, K, (fold != 5).sum(), (fold == 5).sum()))
flat("ref_x", x, "%.2f")
flat("ref_label", y, "%d", "uint32_t")
flat("ref_fold", fold, "%d", "uint32_t")
train, test = fold != 5, fold == 5
strengths = [0.01, 0.3162277660168379, 10]
flat("ref_strength", strengths)
weight, bias, prob, accuracy = [], [], [], []
for c in strengths:
    s, m = probe(c, train)
    weight.append(m.coef_)
    bias.append(m.intercept_)
    prob.append(m.predict_proba(s.transform(x[test])))
    accuracy.append(m.score(s.transform(x[test]), y[test]))
flat("ref_weight", weight, "%.9g")
flat("ref_bias", bias, "%.9g")
flat("ref_probability", prob, "%.9g")
flat("ref_accuracy", accuracy)

# Five rotations: C by accuracy over the inner folds, of equals the smallest; then the test fold.
chosen, rows = [], []
for t in range(1, 6):
    right = np.zeros(len(GRID), int)
    for f in range(1, 6):
        if f == t:
            continue
        for g, c in enumerate(GRID):
            s, m = probe(c, (fold != t) & (fold != f))
            right[g] += (m.predict(s.transform(x[fold == f])) == y[fold == f]).sum()
    c = GRID[right.argmax()]
    s, m = probe(c, fold != t)
    chosen.append(c)
    rows.append(m.score(s.transform(x[fold == t]), y[fold == t]))
flat("ref_chosen", chosen)
flat("ref_rotation_linear", rows)

# Majority of 5; of equals the class of the nearest: a bonus that halves with the rank, too small to turn a vote.
vote = KNeighborsClassifier(5, metric="cosine", algorithm="brute",
                            weights=lambda d: np.tile(1 + 1e-3 * 0.5 ** np.arange(d.shape[1]), (len(d), 1)))
knn, p10 = [], []
for t in range(1, 6):
    vote.fit(x[fold != t], y[fold != t])
    knn.append(vote.score(x[fold == t], y[fold == t]))
    near = vote.kneighbors(x[fold == t], 10, return_distance=False)
    p10.append((y[fold != t][near] == y[fold == t][:, None]).mean())
    if t == 5:
        flat("ref_near", near, "%d", "uint32_t")
        flat("ref_knn", vote.predict(x[test]), "%d", "uint32_t")
flat("ref_rotation_knn", knn)
flat("ref_rotation_p10", p10)
flat("ref_silhouette", silhouette_samples(x, y, metric="cosine"), "%.12g")

u = unit(x)
d2 = ((u[:, None] - u[None]) ** 2).sum(-1)
i, j = np.triu_indices(N, 1)
same = y[i] == y[j]
print("static const double ref_alignment = %.12g, ref_uniformity = %.12g;"
      % (d2[i, j][same].mean(), np.log(np.exp(-2 * d2[i, j]).mean())))

wilson = []
for k, n in ((0, 10), (1, 10), (7, 10), (80, 80), (66, 80), (318, 400)):
    ci = binomtest(k, n).proportion_ci(0.95, method="wilson")
    wilson.append((k, n, ci.low, ci.high))
flat("ref_wilson", wilson)
flat("ref_mcnemar", [(a, b, binomtest(a, a + b).pvalue) for a, b in
                     ((1, 0), (5, 5), (0, 6), (3, 12), (40, 61), (300, 260))])
