"""One trial: trained where its configuration says, here a GPU; rolled out on the CPU (counting goes module by module)."""
import os, sys
import torch
import snn_dt.checkpoint as checkpoint
import snn_dt.cli.run as run_module
import snn_dt.cli.trial as trial

checkpoint._commit = lambda: os.environ["SNN_COMMIT"]
run_module.provenance.__globals__["_commit"] = checkpoint._commit
on_gpu = checkpoint.from_pretrained
checkpoint.from_pretrained = lambda path, device="auto": on_gpu(path, "cpu")

def evaluate(self, stop=None, console=None):
    settings, config = self.config.eval, self.config
    model = run_module.build_model(config.model, self.task)
    model.load_state_dict({k: v.cpu() for k, v in self.policy.model.state_dict().items()})
    policy = run_module.make_policy(model.eval(), self.trajectories, config, self.rtg_scale)
    def progress(done, total):
        if stop is not None: stop.check()
    self.rows = run_module.evaluate(policy, settings.target_return, episodes=settings.episodes, seed=settings.seed,
        num_envs=settings.num_envs, env_id=settings.env_id, progress=progress, meter_every=8)
    return self.rows

run_module.Run.evaluate = evaluate
made = trial._result
def result(run, rows, attempt):
    return made(run, rows, attempt) | {"evaluated_on": "cpu"}
trial._result = result
sys.exit(trial.trial_main(["--run_dir", sys.argv[1]]))
