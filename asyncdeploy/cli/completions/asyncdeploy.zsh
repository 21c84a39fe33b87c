#compdef asyncdeploy
# asyncdeploy for zsh: eval "$(asyncdeploy completion zsh)"
_asyncdeploy() {
    local -a verbs flags runs
    verbs=(
        'demo:the whole way once, on four nodes inside this process'
        'init:write a commented asyncdeploy.toml from what is found here'
        'check:this machine; with nodes, whether they can work together'
        'plan:what a deploy would do; nothing is changed'
        'push:send the project'\''s files, only what changed'
        'deploy:push, and make the environment'
        'run:run a command on all nodes, attached\: it ends with us'
        'start:deploy, and start a command on each node, detached'
        'launch:deploy, and train on all nodes together, detached'
        'ps:what runs and ran on the nodes'
        'logs:what it has printed; -f follows it and only looks'
        'wait:watch over it until it ends'
        'stop:end it everywhere'
        'why:why it failed, or where each rank stands while it runs'
        'collect:bring its results home'
        'forward:a port of a node as one of this machine'
        'ssh:a shell in the project'\''s folder, inside its environment'
        'clean:take away what deployments left and nobody uses'
        'offers:who would rent such machines, and for how much'
        'rent:rent them until Ctrl-C, or all of their time'
        'rentals:what is rented now, and what it costs'
        'give-back:end a rental, from any machine'
        'reap:end what is over, and what died left behind'
    )
    (( ${words[(I)--]} == 0 || ${words[(I)--]} >= CURRENT )) || return 1
    if (( CURRENT == 2 )); then
        _describe verb verbs
        return
    fi
    case $words[CURRENT-1] in
        --config|--hostfile|--key|--path|--results|--stdin|--timeline|--to) _files; return ;;
    esac
    case $words[2] in
        completion) compadd bash zsh fish; return ;;
        demo) flags=(--hosts --accept-new --results --help) ;;
        init) flags=(--force --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        check) flags=(--nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --nproc-per-node --help) ;;
        plan) flags=(--path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        push) flags=(--path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --dry-run --help) ;;
        deploy) flags=(--path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --dry-run --help) ;;
        run) flags=(--deploy --timeout --cwd --set --secret --stdin --at-once --bare --path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        start) flags=(--name --timeout --cwd --set --secret --stdin --at-once --bare --path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        launch) flags=(--detach --launcher --name --nproc-per-node --restarts --spares --grace --set --secret --dry-run --path --env --extra --image --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        ps) flags=(--nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        logs) flags=(--follow --tail --since --rank --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        wait) flags=(--nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        stop) flags=(--grace --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        why) flags=(--nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        collect) flags=(--source --to --logs --partial --every --include --without --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        forward) flags=(--local-port --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        ssh) flags=(--print --ssh-config --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        clean) flags=(--older-than --dry-run --nodes --hostfile --limit --exclude --accept-new --key --jump --config --json --verbose --quiet --timeline --help) ;;
        offers) flags=(--usd-per-hour --gpus --num-nodes --for --disk-gb --image --region --apart --provider --owner --give-up --json --verbose --quiet --timeline --help) ;;
        rent) flags=(--detach --boot --usd-per-hour --gpus --num-nodes --for --disk-gb --image --region --apart --provider --owner --give-up --json --verbose --quiet --timeline --help) ;;
        rentals) flags=(--provider --owner --give-up --json --verbose --quiet --timeline --help) ;;
        give-back) flags=(--provider --owner --give-up --json --verbose --quiet --timeline --help) ;;
        reap) flags=(--provider --owner --give-up --json --verbose --quiet --timeline --help) ;;
    esac
    if [[ $words[CURRENT] == -* ]]; then
        compadd -- $flags
        return
    fi
    case $words[2] in
        ps|logs|wait|stop|why|collect|forward|ssh)
            runs=("${XDG_STATE_HOME:-$HOME/.local/state}"/asyncdeploy/runs/*.json(N:t:r))
            compadd -- last $runs ;;
    esac
}
compdef _asyncdeploy asyncdeploy
alias asyncdeploy='noglob asyncdeploy' # else zsh takes gpu[1-4] for a pattern of files, and refuses it
