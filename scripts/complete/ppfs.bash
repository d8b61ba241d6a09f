# Completion of ppfs's programs for bash: their options, as --help shows them, and names in the mount: jobs, groups, nodes.
# shellcheck shell=bash disable=SC2207 # names with blanks are completed as words

# The mount that the words name, else $PPFS, else one of this user's own or root's: another's may make up names, or hang.
_ppfs_mount() {
    local i word='' find='findmnt -n -r -f -t fuse.ppfs -o TARGET -O' IFS=' '
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -m | --mount) word=${COMP_WORDS[i + 1]:-} ;;
        esac
    done
    if [[ $word =~ ^\$([A-Za-z_][A-Za-z_0-9]*)(.*)$ ]]; then
        printf %s "${!BASH_REMATCH[1]:-}${BASH_REMATCH[2]}"
    elif [ -n "$word" ]; then
        printf %s "${word/#\~\//$HOME/}"
    elif [ -n "${PPFS:-}" ]; then
        printf %s "$PPFS"
    else
        $find user_id="$EUID" 2>/dev/null || $find user_id=0 2>/dev/null
    fi
}

# _ppfs_names SHELF [-d]: what stands there, of directories alone with -d; a word with a slash goes into its group.
_ppfs_names() {
    local mount path
    mount=$(_ppfs_mount)
    [ -n "$mount" ] || return
    case $cur in
    */*) path=${cur%/*}/ ;;
    *) path= ;;
    esac
    while IFS= read -r name; do
        [ "${2:-}" = -d ] && [ ! -d "$mount/$1/$path$name" ] && continue
        printf '%s\n' "$path$name"
    done < <(command ls -1 -- "$mount/$1/$path" 2>/dev/null)
}

# _ppfs_offer [HEAD]: those lines of standard input that begin with the word. Not compgen -W, which would run a $(name); nor
# a name with $ or `, which bash puts into the line without a backslash, so that Return would run it; nor one with a control
# character, which the terminal may obey.
_ppfs_offer() {
    local name
    while IFS= read -r name; do
        [[ $name = "$cur"* && $name != *[\$\`[:cntrl:]]* ]] && COMPREPLY+=("${1:-}$name")
    done
    return 0
}

_ppfs() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]} i head names IFS=$'\n'
    local options='after= array= cpus= cwd= env= gives= gpu= hold= keep= memory= needs= node= priority= resources= retries= sandbox= timeout='
    COMPREPLY=()
    if [ "$prev" = = ]; then # bash takes the sign for a word
        prev=${COMP_WORDS[COMP_CWORD - 2]}=
    elif [ "$cur" = = ]; then
        prev=$prev= cur=
    fi
    prev=${prev##*,}
    if [ "${program##*/}" = ppfs-run ] && [[ $prev = *= && $cur = *,* ]]; then # another option, or job of after=
        head=${cur%,*}, cur=${cur##*,} names=
        [ "$prev" != after= ] || names=$(_ppfs_names info)
        _ppfs_offer "$head" <<<"${options// /$IFS}${names:+$IFS$names}"
        compopt -o nospace 2>/dev/null
        return
    fi
    case ${program##*/}:$prev in
    *:node= | ppfs:--node-user)
        _ppfs_offer < <(_ppfs_names nodes)
        return
        ;;
    *:after= | ppfs-run:--wait | ppfs-run:--cancel)
        _ppfs_offer < <(_ppfs_names info)
        return
        ;;
    ppfs-run:--failed | ppfs-run:--retry)
        _ppfs_offer < <(_ppfs_names failures -d)
        return
        ;;
    ppfs-run:-g | ppfs-run:--group)
        _ppfs_offer < <(_ppfs_names jobs -d)
        return
        ;;
    ppfs-run:-o | ppfs-run:--option)
        COMPREPLY=($(compgen -W "${options// /$IFS}" -- "$cur"))
        compopt -o nospace 2>/dev/null
        return
        ;;
    ppfs-batch:--system)
        COMPREPLY=($(compgen -W $'pbs\nsge\nhtcondor' -- "$cur"))
        return
        ;;
    *:--sync)
        COMPREPLY=($(compgen -W $'full\nnormal' -- "$cur"))
        return
        ;;
    *:-m | *:--mount | *:--state | *:--check)
        COMPREPLY=($(compgen -d -- "$cur"))
        return
        ;;
    esac
    case $cur in
    -*)
        COMPREPLY=($(compgen -W "$(command "$program" --help 2>/dev/null | command grep -oE -- '(^|[ ,|])--?[a-z][a-z-]*' | command tr -d ' ,|' | command sort -u)" -- "$cur"))
        return
        ;;
    esac
    if [ "${program##*/}" = ppfs-run ]; then
        for ((i = 1; i < COMP_CWORD; i++)); do # the command's own words are files
            case ${COMP_WORDS[i]} in
            -d | -n | --detach | --no-stdin | --progress) ;;
            --)
                COMPREPLY=($(compgen -c -f -- "$cur"))
                return
                ;;
            -*) i=$((i + 1)) ;;
            *)
                COMPREPLY=($(compgen -f -- "$cur"))
                return
                ;;
            esac
        done
        COMPREPLY=($(compgen -c -f -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}

complete -o filenames -F _ppfs ppfs ppfs-node ppfs-run ppfs-top ppfs-dashboard ppfs-python ppfs-slurm ppfs-batch ppfs-ssh
