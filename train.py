"""Train a diffusion model over text: python train.py --help"""

import hydra

from diffusion_text.entry import run, training_job, user_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg):
    with user_errors(), training_job(cfg) as unfinished:
        if unfinished:
            from diffusion_text.composition import compose_training
            from diffusion_text.training import train

            train(compose_training(cfg))
    from diffusion_text.sweeps import objective

    return objective(cfg.run_dir, cfg.objective.metric)


if __name__ == "__main__":
    run(main)
