# shellcheck shell=bash
# A lab's own cgroup in every hierarchy of the host: made before the lab's first
# process, seen from inside as the root, emptied and removed afterwards.
#
# A record is a file of absolute directories, one per hierarchy. It is written
# before the directories are made, so that no death in between leaves one
# that nobody knows.

# Prints "CONTROLLERS DIRECTORY" for each mounted hierarchy that this process is
# in: its own directory there. Version 2 has the controllers "unified". On a host
# that has version 2 only, the directory is the root: a directory with processes
# (such as our own session's) can pass no controllers on.
host_cgroups() {
  local _id controllers own mount_root mount_point
  while IFS=: read -r _id controllers own; do
    read -r mount_root mount_point < <(cgroup_mount "$controllers") || continue
    if [[ -z $controllers ]]; then
      controllers=unified
      if cgroup2_only; then own=$mount_root; fi
    fi
    own=${own#"${mount_root%/}"}
    [[ -d $mount_point$own ]] || own=
    echo "$controllers ${mount_point}${own%/}"
  done </proc/self/cgroup
}

cgroup2_only() { ! grep -q '^[0-9]*:[^:]\+:' /proc/self/cgroup; }

# cgroup_mount CONTROLLERS: root and place of the hierarchy's topmost mount.
cgroup_mount() {
  awk -v wanted="$1" '
    {
      dash = 7; while ($dash != "-") dash++
      type = $(dash + 1); options = "," $(dash + 3) ","
      fits = (wanted == "") ? type == "cgroup2" : type == "cgroup"
      n = split(wanted, list, ",")
      for (i = 1; i <= n; i++) fits = fits && index(options, "," list[i] ",")
      if (fits) found = $4 " " $5
    }
    END { if (found == "") exit 1; print found }' /proc/self/mountinfo
}

# make_cgroups NAME RECORD
make_cgroups() {
  local controllers directory file
  while read -r controllers directory; do
    echo "$directory/$1" >>"$2"
    mkdir "$directory/$1" || die "cannot make the cgroup $directory/$1 (is /sys/fs/cgroup mounted read-write?)"
    case ,$controllers, in
    *,cpuset,*)
      # Version 1: no process may enter before these are set.
      for file in cpuset.cpus cpuset.mems; do
        cat "$directory/$file" >"$directory/$1/$file"
      done
      ;;
    ,unified,)
      if cgroup2_only; then
        pass_controllers_on "$directory"
        mkdir "$directory/$1/init"
      fi
      ;;
    esac
  done < <(host_cgroups)
  [[ -s $2 ]] || die "no cgroup hierarchy is mounted on this host: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
}

# Enables in a version 2 directory what its children are to have, no more. Only
# what is missing is written: on most hosts systemd has done it all.
pass_controllers_on() {
  local controller enabled there
  enabled=" $(<"$1/cgroup.subtree_control") "
  there=" $(<"$1/cgroup.controllers") "
  for controller in cpu cpuset io memory pids; do
    if [[ $enabled == *" $controller "* || $there != *" $controller "* ]]; then continue; fi
    # A controller that somebody else holds is one less in the lab, no more.
    echo "+$controller" 2>/dev/null >"$1/cgroup.subtree_control" || true
  done
}

# join_cgroups RECORD: moves the calling (sub)shell.
join_cgroups() {
  local directory
  while read -r directory; do
    echo "$BASHPID" >"$directory/cgroup.procs"
  done <"$1"
}

# leave_root RECORD: to be called in the lab's cgroup namespace. In version 2 only
# a directory without processes passes controllers on.
leave_root() {
  local directory
  while read -r directory; do
    [[ -d $directory/init ]] || continue
    echo "$BASHPID" >"$directory/init/cgroup.procs"
    pass_controllers_on "$directory"
  done <"$1"
}

# mount_cgroups DIRECTORY: in the lab's cgroup namespace, the hierarchies anew, so
# that their roots are the lab's own. On a host with both versions the second is
# left out: crun refuses to work with a mixture.
mount_cgroups() {
  local _id controllers own name part
  if cgroup2_only; then
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$1"
    return
  fi
  mount -t tmpfs -o nosuid,nodev,noexec,mode=755 cgroup "$1"
  while IFS=: read -r _id controllers own; do
    [[ -n $controllers ]] || continue
    name=${controllers#name=}
    mkdir "$1/$name"
    case $controllers in
    name=*) mount -t cgroup -o "nosuid,nodev,noexec,none,$controllers" cgroup "$1/$name" ;;
    *) mount -t cgroup -o "nosuid,nodev,noexec,$controllers" cgroup "$1/$name" ;;
    esac
    [[ $name == *,* ]] || continue
    for part in ${name//,/ }; do ln -s "$name" "$1/$part"; done
  done </proc/self/cgroup
}

# thaw DIRECTORY: a process frozen by version 1 does not even die of SIGKILL, and
# its PID namespace waits for it.
thaw() {
  local file
  while read -r file; do
    echo THAWED 2>/dev/null >"$file" || true
  done < <(find -H "$1" -name freezer.state 2>/dev/null)
}

# remove_cgroups RECORD: kills what is left below each directory, then removes it.
remove_cgroups() {
  local directory pid pids until=$((SECONDS + 30))
  while :; do
    pids=
    while read -r directory; do
      # Whatever a damaged record may say, nothing but a lab's is touched.
      [[ ${directory##*/} == stasis-lab-* && -d $directory ]] || continue
      thaw "$directory"
      pids+=" $(find "$directory" -name cgroup.procs -exec cat {} + 2>/dev/null | tr '\n' ' ')"
      find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done <"$1"
    # 0 is a process of a namespace that we do not see into.
    for pid in $pids; do ((pid == 0)) || kill -KILL "$pid" 2>/dev/null || true; done
    # Not a bare return: in a trap that would return the status before the trap.
    if cgroups_gone "$1"; then return 0; fi
    if ((SECONDS >= until)); then return 1; fi
    sleep 0.02
  done
}

cgroups_gone() {
  local directory
  while read -r directory; do
    [[ ! -d $directory ]] || return 1
  done <"$1"
}
