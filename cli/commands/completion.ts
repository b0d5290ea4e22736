import { command, UsageError } from '../command.js';

/** The shell hands over the words of the line; sand-agent-cli itself knows what may follow (`cli/offer.ts`). */
const SCRIPTS: Readonly<Record<string, string>> = {
  // Words are split at blanks only: bash itself breaks URLs and names at colons.
  bash: `# bash completion of sand-agent-cli: source <(sand-agent-cli completion bash)
_sand_agent_cli() {
  local line=\${COMP_LINE:0:COMP_POINT} breaks=\${COMP_WORDBREAKS//[^:=]/} words current offer head=
  read -ra words <<< "$line"
  [[ $line == *[[:blank:]] ]] && words+=('')
  current=\${words[-1]}
  [[ -n $breaks ]] && head=\${current%"\${current##*[$breaks]}"}
  COMPREPLY=()
  while IFS= read -r offer; do
    if [[ $offer == :files ]]; then
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "\${current#"$head"}")
      return
    fi
    # Readline replaces only what stands behind the last colon or equals sign.
    offer=\${offer%%$'\\t'*}
    printf -v offer %q "\${offer#"$head"}"
    COMPREPLY+=("$offer")
  done < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
}
complete -F _sand_agent_cli sand-agent-cli
`,
  zsh: `#compdef sand-agent-cli
# zsh completion of sand-agent-cli: source <(sand-agent-cli completion zsh), or a file _sand-agent-cli in $fpath
_sand_agent_cli() {
  local -a offers
  local offer
  for offer in "\${(@f)$("\${(@Q)words[1]}" __complete "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -z $offer ]] && continue
    if [[ $offer == :files ]]; then
      _files
      return
    fi
    # _describe splits at colons: those of the value are escaped, the tab becomes the one that counts.
    offers+=("\${\${offer%%$'\\t'*}//:/\\\\:}:\${offer#*$'\\t'}")
  done
  _describe sand-agent-cli offers
}
if [[ $funcstack[1] == _sand_agent_cli || $funcstack[1] == _sand-agent-cli ]]; then
  _sand_agent_cli "$@"
else
  compdef _sand_agent_cli sand-agent-cli
fi
`,
  fish: `# fish completion of sand-agent-cli: sand-agent-cli completion fish | source
function __sand_agent_cli
    set -l words (commandline -opc) (commandline -ct)
    set -l offers (command $words[1] __complete $words[2..-1] 2>/dev/null)
    if test "$offers[1]" = ':files'
        __fish_complete_path (commandline -ct)
    else if test (count $offers) -gt 0
        printf '%s\\n' $offers
    end
end
complete -c sand-agent-cli -f -a '(__sand_agent_cli)'
`,
};

export const completion = command({
  name: 'completion',
  summary: 'Print the completion script of a shell',
  operand: { name: 'shell', required: true, describe: 'bash, zsh or fish', complete: Object.keys(SCRIPTS) },
  flags: {},
  example: ['completion bash > /etc/bash_completion.d/sand-agent-cli', 'for every user of bash'],
  async run({ operand }) {
    const script = SCRIPTS[operand];
    if (script === undefined) throw new UsageError(`shell is ${operand}; it must be bash, zsh or fish`);
    process.stdout.write(script);
  },
});
