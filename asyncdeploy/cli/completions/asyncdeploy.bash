# asyncdeploy for bash: eval "$(asyncdeploy completion bash)"
_asyncdeploy() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words= each
    COMPREPLY=()
    for each in "${COMP_WORDS[@]:0:COMP_CWORD}"; do
        [[ $each != -- ]] || return 0
    done
    case $prev in
        --config|--hostfile|--key|--path|--results|--stdin|--timeline|--to) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return 0 ;;
    esac
    if ((COMP_CWORD == 1)); then
        words='demo init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean offers rent rentals give-back reap completion --help --version'
    elif [[ ${COMP_WORDS[1]} == completion ]]; then
        words='bash zsh fish'
    elif [[ $cur != -* ]]; then
        case ${COMP_WORDS[1]} in
        ps|logs|wait|stop|why|collect|forward|ssh) words="last $(cd "${XDG_STATE_HOME:-$HOME/.local/state}"/asyncdeploy/runs 2>/dev/null && ls | sed -n 's/[.]json$//p')" ;;
        esac
    else
        case ${COMP_WORDS[1]} in
        demo) words='--hosts --accept-new --results --help' ;;
        init) words='--force --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        check) words='--nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --nproc-per-node --help' ;;
        plan) words='--path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        push) words='--path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --dry-run --help' ;;
        deploy) words='--path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --dry-run --help' ;;
        run) words='--deploy --timeout --cwd --set --secret --stdin --at-once --bare --path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        start) words='--name --timeout --cwd --set --secret --stdin --at-once --bare --path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        launch) words='--detach --launcher --name --nproc-per-node --restarts --spares --grace --set --secret --dry-run --path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        ps) words='--nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        logs) words='--follow --tail --since --rank --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        wait) words='--nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        stop) words='--grace --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        why) words='--nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        collect) words='--source --to --logs --partial --every --include --without --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        forward) words='--local-port --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        ssh) words='--print --ssh-config --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        clean) words='--older-than --dry-run --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help' ;;
        offers) words='--usd-per-hour --gpus --num-nodes --for --disk-gb --image --region --apart --provider --owner --give-up --json --verbose --quiet --timeline --help' ;;
        rent) words='--detach --boot --usd-per-hour --gpus --num-nodes --for --disk-gb --image --region --apart --provider --owner --give-up --json --verbose --quiet --timeline --help' ;;
        rentals) words='--provider --owner --give-up --json --verbose --quiet --timeline --help' ;;
        give-back) words='--provider --owner --give-up --json --verbose --quiet --timeline --help' ;;
        reap) words='--provider --owner --give-up --json --verbose --quiet --timeline --help' ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _asyncdeploy asyncdeploy
