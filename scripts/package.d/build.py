#!/usr/bin/env python3
"""Builds the Debian package with dpkg-deb, from what Cargo.toml says to cargo-deb. The argument is the folder it goes to."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def needed_libraries(program):
    """What `$auto` stands for: the C library that has all that the program asks of it."""
    with open(program, "rb") as file:
        versions = re.findall(rb"GLIBC_(2\.\d+)", file.read())
    newest = max(int(version.split(b".")[1]) for version in versions)
    return f"libc6 (>= 2.{newest}), libgcc-s1"


def place(pattern, target, mode, root):
    found = sorted(glob.glob(pattern))
    if not found:
        sys.exit(f"{pattern}: nothing is there")
    for source in found:
        path = os.path.join(root, target)
        if target.endswith("/"):
            path = os.path.join(path, os.path.basename(source))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.islink(source):
            os.symlink(os.readlink(source), path)
        else:
            shutil.copyfile(source, path)
            os.chmod(path, int(mode, 8))


def build(out):
    os.umask(0o022)
    package = json.loads(output("cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"))["packages"][0]
    about = package["metadata"]["deb"]
    root = "target/package/root"
    for pattern, target, mode in about["assets"]:
        place(pattern, target, mode, root)
    architecture = output("dpkg", "--print-architecture").strip()
    files = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    kilobytes = sum(os.lstat(path).st_size for path in files) // 1024 + 1
    control = {
        "Package": package["name"],
        "Version": package["version"] + "-1",
        "Architecture": architecture,
        "Section": about["section"],
        "Priority": "optional",
        "Maintainer": about["maintainer"],
        "Installed-Size": kilobytes,
        "Depends": about["depends"].replace("$auto", needed_libraries(f"{root}/usr/bin/sps")),
        "Recommends": about["recommends"],
        "Description": package["description"] + "\n " + about["extended-description"],
    }
    os.makedirs(f"{root}/DEBIAN")
    with open(f"{root}/DEBIAN/control", "w") as file:
        file.writelines(f"{name}: {value}\n" for name, value in control.items())
    with open(f"{root}/DEBIAN/conffiles", "w") as file:
        file.writelines(f"{path}\n" for path in about["conf-files"])
    for script in os.listdir(about["maintainer-scripts"]):
        place(os.path.join(about["maintainer-scripts"], script), f"DEBIAN/{script}", "755", root)
    file = os.path.join(out, f"sps_{control['Version']}_{architecture}.deb")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", root, file], check=True, stdout=subprocess.DEVNULL)
    print(file)


build(sys.argv[1])
