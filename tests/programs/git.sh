#!/usr/bin/env bash
# git.sh MOUNT: a repository is made, cloned, changed, pushed, packed and checked.
set -euo pipefail

work=$(mktemp -d "$(realpath "$1")/git.XXXXXX")
trap 'rm -rf "$work"' EXIT
export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_COMMITTER_NAME=a \
    GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_EMAIL=a@example.org
cd "$work"
git config --global init.defaultBranch trunk
git config --global advice.detachedHead false

git init -q origin
cd origin
for commit in $(seq 20); do
    mkdir -p "src/$((commit % 5))"
    for file in $(seq 10); do
        seq "$commit" $((commit * file * 20)) >"src/$((commit % 5))/$file.txt"
    done
    git add .
    git commit -qm "commit $commit"
done
git tag v1
cd ..
git clone -q --bare --no-hardlinks origin bare
git clone -q bare clone
cd clone
git checkout -qb work
git mv src/1 src/moved
echo changed >src/2/1.txt
chmod +x src/2/2.txt
ln -s 2/1.txt src/link
git add . && git commit -qm work
git checkout -q trunk
echo trunk >src/3/1.txt && git commit -qam trunk
git merge -q --no-edit work
git stash list | cmp -s - /dev/null
git push -q origin trunk work
git gc -q --prune=now
git fsck --full --strict --no-progress
git worktree add -q ../tree v1
[ -z "$(git status --porcelain)" ]
cd ../bare
git gc -q --prune=now --aggressive
git fsck --full --strict --no-progress
cd ..
git clone -q bare again
diff -r --exclude=.git clone again
[ "$(git -C again log --oneline | wc -l)" = 23 ]
[ -x again/src/2/2.txt ]
[ "$(cat again/src/link)" = changed ]
echo "git: cloned, merged, pushed, packed and checked 23 commits"
