"""What figures are called in tables, charts, pages and dashboards."""

PREDICTORS = {"model": "this model", "do_nothing": "do nothing (ε̂ = x_t)", "linear": "best linear predictor"}
QUANTITIES = {
    "noise_cosine": "cosine similarity of noise",
    "noise_magnitude": "magnitude ratio of noise",
    "x0_cosine": "cosine similarity of x_0",
    "x0_magnitude": "magnitude ratio of x_0",
}
INFORMATION = {
    "information": "information, nats a token",
    "skill": "skill: share of the reference's error gone",
}
QUALITY = {
    "judge_nll": "5-gram judge, nats a token",
    "text_entropy": "entropy of each text, nats",
    "entropy": "entropy of all together, nats",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "text_distinct_1": "distinct-1 of each text",
    "text_distinct_2": "distinct-2 of each text",
    "text_distinct_3": "distinct-3 of each text",
    "unique_texts": "share of unique texts",
    "unigram_kl": "unigram KL, nats",
    "self_bleu": "self-BLEU",
    "top_share": "share of the most frequent token",
    "punctuation_share": "share of punctuation",
    "memorised": "8-grams of the training split",
}
JUDGED_BY_A_MODEL = {
    "source_nll": "the source itself, nats a token",
    "perplexity": "perplexity, language model",
    "mauve": "MAUVE",
}
