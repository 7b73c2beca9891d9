"""Sample texts from a run: python sample.py --help"""

import hydra

from diffusion_text.entry import run, user_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
def main(cfg):
    with user_errors():
        from diffusion_text.composition import restore
        from diffusion_text.runs import Run, find_checkpoint
        from diffusion_text.sampling import print_samples, write_samples

        checkpoint = find_checkpoint(cfg.run, cfg.ckpt, cfg.outputs)
        model, sampler, step = restore(checkpoint, cfg.sampler)
        run_directory = Run.of_checkpoint(checkpoint)
        print_samples(write_samples(model, sampler, run_directory, cfg.num_samples, cfg.seed, cfg.length, step))


if __name__ == "__main__":
    run(main)
