"""Every scenario by name, in the order in which they are run."""

from . import certificates, daily, disasters, drills, installed, machines, mistakes, operators, policies, rules, watched

ALL = {function.__name__.replace("_", "-"): function
       for module in (daily, disasters, drills, operators, mistakes, certificates, machines, rules, watched, installed, policies)
       for function in module.ALL}


def clear(ground, name):
    """Takes away what a scenario has left, so that the next one has the machine for itself."""
    box = ground.box
    for kind in ("vrc", "vrr"):
        box.kubectl("-n", name, "delete", kind, "--all", "--wait=false", check=False)
    box.kubectl("delete", "namespace", name, "--wait=false", check=False)
