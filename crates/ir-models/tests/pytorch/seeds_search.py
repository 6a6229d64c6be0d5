"""Finds images that keep away from the kinks of a network's loss (rounding.py says why).

    python seeds_search.py CASE...        prints the entries of cases.SEEDS
"""

import argparse

import torch

import cases
import measures
import rounding
import training

SEEDS_TRIED = 2000


def evaluation_distance(specification, seed):
    """How far the images of a seed keep from any kink in the traced pass and the exits; 0 where a
    decision hangs on too little, or the groups do not differ."""
    seen, x, labels = [], cases.images(seed, "evaluation", cases.EVALUATED, torch.float64), None
    for network in (cases.build(specification, torch.float64), cases.disturbed(specification, 0)):
        network.eval()
        labels = cases.evaluation_labels(network, x) if labels is None else labels
        inputs = rounding.ReluInputs(network)
        found = measures.all_measures(network, x, labels)
        if not seen and not well_decided(network, found):
            return 0.0
        seen.append(inputs)
    return rounding.distance_from_kinks(*seen)


def well_decided(network, found):
    """No decision near its threshold; at every reference some samples, not all, are correct, and
    at one of them some are borderline."""
    margins = torch.cat([value.flatten() for name, value in found.items() if name.endswith("_margin")])
    near = torch.minimum(margins.abs(), (margins.abs() - measures.BORDERLINE).abs()).min()
    groups = [found[f"groups.exit_{name}.samples"] for name in measures.reference_exits(network)]
    mixed = all(0 < group[1] < group[0] for group in groups)
    return near > cases.DECIDED_BY and mixed and any(0 < group[2] < group[0] for group in groups)


def training_distance(specification, seeds):
    """How far the last step of `seeds` keeps from any kink."""
    seen = []
    for network in (cases.build(specification, torch.float64), cases.disturbed(specification, 0)):
        inputs = rounding.ReluInputs(network)
        training.steps(network, cases.training_batches(specification, seeds, torch.float64))
        inputs.seen = inputs.seen[len(inputs.seen) // len(seeds) * (len(seeds) - 1) :]
        seen.append(inputs)
    return rounding.distance_from_kinks(*seen)


def distances(specification, seeds):
    """The distance of each part, as functions of that part's seed."""
    first = seeds.get("step.1")
    return {
        "evaluation": lambda seed: evaluation_distance(specification, seed),
        "step.1": lambda seed: training_distance(specification, [seed]),
        "step.2": lambda seed: training_distance(specification, [first, seed]),
    }


def verify(specification, seeds):
    """Refuses seeds that come too near."""
    for part, distance in distances(specification, seeds).items():
        if (found := distance(seeds[part])) < cases.DISTANCES[part]:
            raise SystemExit(f"{part}: seed {seeds[part]} has distance {found}; run seeds_search.py")


def find(specification):
    """The first seed of each part whose images keep far enough away."""
    seeds = {}
    for part, wanted in cases.DISTANCES.items():
        distance = distances(specification, seeds)[part]
        seeds[part] = next(seed for seed in range(SEEDS_TRIED) if distance(seed) >= wanted)
    return seeds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="+")
    torch.set_num_threads(1)
    for name in parser.parse_args().cases:
        print(f'    "{name}": {find(cases.SPECIFICATIONS[name])},', flush=True)


if __name__ == "__main__":
    main()
