"""The games of adversarial training: losses, what they measure, and how critics are held."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_GAMES = "objectives/test_games.py"
_METRICS = "objectives/test_adversarial_metrics.py"
_TRAINED = "objectives/test_trained_discriminators.py"
_PENALTY = "objectives/test_lipschitz.py"
_PULLING = "objectives/test_pulling_away.py"
_LOSSES = "objectives/test_adversarial.py"
_DIVERGENCE = f"{_GAMES}::TestBestScore::test_its_loss_is_the_divergence"
_CHANCE = f"{_GAMES}::test_at_equal_laws_the_values_are_those_of_chance"
_LINES = f"{_METRICS}::TestParallelLines::test_a_critic_of_norm_one_finds_their_distance"
_RATIO = f"{_TRAINED}::TestClassifier::test_it_is_the_ratio_of_the_densities"
_LINEAR = f"{_PENALTY}::test_of_a_linear_critic_it_is_closed"
_SINGULAR = f"{_METRICS}::TestSpectralNorm::test_it_divides_by_the_largest_singular_value"

SYSTEMS = (
    System(
        id="M08",
        name="Generative adversarial networks",
        source="Mathieu 2017, §2.1.3.2",
        implementation="gencore.objectives.LogisticGame",
        test=_DIVERGENCE,
        further_tests=(_CHANCE,),
    ),
    System(
        id="M33",
        name="Energy-based GAN: losses and equilibrium",
        source="Mathieu 2017, §6.2",
        implementation="gencore.objectives.EnergyGame",
        test=f"{_GAMES}::TestPlay::test_of_squared_energies_reaches_the_equilibrium",
        further_tests=(
            _DIVERGENCE,
            _CHANCE,
            f"{_GAMES}::TestBestScore::test_no_other_score_is_better",
            f"{_GAMES}::TestPlay::test_of_plain_energies_does_not",
        ),
        notes="f(u) = u and f(u) = u²; gradient play settles for the second alone",
    ),
    System(
        id="M34",
        name="Auto-encoder as a discriminator",
        source="Mathieu 2017, §6.2.3",
        implementation="gencore.models.AutoencoderEnergy",
        test=f"{_TRAINED}::TestAutoencoder::test_above_the_margin_samples_train_the_generator_alone",
        further_implementations=("gencore.objectives.EnergyGame",),
        further_tests=(
            f"{_TRAINED}::TestAutoencoder"
            "::test_the_game_with_a_generator_raises_the_energy_elsewhere",
            f"{_TRAINED}::TestAutoencoder::test_data_alone_bring_all_energies_down",
            f"{_TRAINED}::TestAutoencoder::test_gradients",
        ),
    ),
    System(
        id="M35",
        name="Pulling-away term",
        source="Mathieu 2017, §6.2.4",
        implementation="gencore.objectives.pulling_away_term",
        test=f"{_PULLING}::test_orthogonal_codes_have_none_and_collinear_ones_all",
        further_tests=(
            f"{_PULLING}::test_lengths_do_not_matter",
            f"{_PULLING}::test_descent_reaches_the_bound_of_welch",
            f"{_PULLING}::test_the_gradient",
        ),
    ),
    System(
        id="Y07",
        name="GAN and Wasserstein GAN",
        source="Yan 2022, §2.3",
        implementation="gencore.objectives.WassersteinGame",
        test=f"{_METRICS}::TestPoints::test_their_distance_is_the_best_of_slopes_up_to_one",
        further_implementations=(
            "gencore.objectives.LogisticGame",
            "gencore.objectives.gradient_penalty",
        ),
        further_tests=(
            f"{_METRICS}::test_gaussians_of_equal_variance_are_as_far_as_their_means",
            _CHANCE,
            _RATIO,
            _LINEAR,
            _SINGULAR,
        ),
        notes="spectral normalisation is torch's",
    ),
    System(
        id="L06",
        name="GAN with three losses of the generator",
        source="Lucas 2020, §2.7, §5.3",
        implementation="gencore.objectives.LogisticGame",
        test=_RATIO,
        further_implementations=("gencore.objectives.adversarial_generator_loss",),
        further_tests=(
            _DIVERGENCE,
            f"{_TRAINED}::TestClassifier::test_its_losses_are_divergences",
            f"{_LOSSES}::test_the_generator_s_losses_are_divergences",
            f"{_LOSSES}::test_far_from_the_data_only_one_loss_still_pulls",
        ),
    ),
    System(
        id="L12",
        name="Wasserstein GAN: clipping, gradient penalty, spectral normalisation",
        source="Lucas 2020, §2.11",
        implementation="gencore.objectives.WassersteinGame",
        test=_LINES,
        further_implementations=(
            "gencore.objectives.gradient_penalty",
            "gencore.nn.clip_weights",
        ),
        further_tests=(
            f"{_METRICS}::TestParallelLines::test_their_jensen_shannon_divergence_is_flat",
            _LINEAR,
            f"{_PENALTY}::test_gradients_in_the_weights_of_discriminators",
            _SINGULAR,
            f"{_METRICS}::TestSpectralNorm::test_slopes_of_a_network_are_at_most_one",
            f"{_METRICS}::TestPoints::test_clipped_weights_measure_their_bound_times_the_distance",
        ),
        notes="spectral normalisation is torch's",
    ),
    System(
        id="B07",
        name="Adversarial metric of a class of functions",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.AdversarialGame",
        test=f"{_METRICS}::test_the_class_of_functions_makes_the_metric",
    ),
    System(
        id="B08",
        name="Variational bounds of f-divergences; total variation",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.FDivergenceGame",
        test=_DIVERGENCE,
        further_implementations=("gencore.objectives.WassersteinGame",),
        further_tests=(
            f"{_GAMES}::TestBestScore::test_no_other_score_is_better",
            f"{_GAMES}::TestBound::test_it_is_tight_where_a_law_has_no_mass",
            f"{_METRICS}::test_the_class_of_functions_makes_the_metric",
        ),
    ),
    System(
        id="B11",
        name="Generative adversarial networks",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.LogisticGame",
        test=_DIVERGENCE,
        further_tests=(_CHANCE, _RATIO),
    ),
    System(
        id="B14",
        name="Wasserstein GAN, with clipping or a gradient penalty",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.WassersteinGame",
        test=_LINES,
        further_implementations=(
            "gencore.objectives.gradient_penalty",
            "gencore.nn.clip_weights",
        ),
        further_tests=(f"{_METRICS}::TestPoints::test_a_penalty_lets_the_slope_exceed_one",),
    ),
)
