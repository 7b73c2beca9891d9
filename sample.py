"""Sample texts from a run, or look closely at what its model does: python sample.py --help"""

import hydra

from diffusion_text.entry import run, user_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
def main(cfg):
    with user_errors():
        from diffusion_text.composition import compose_task

        task, session = compose_task(cfg)
        task(session)


if __name__ == "__main__":
    run(main)
