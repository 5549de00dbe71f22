package main

import (
	"fmt"
	"strings"
)

// bashCompletion walks the words to find the command, then offers its commands
// and flags, or the values of the flag before the cursor; where it has nothing
// to offer, bash completes file names.
func bashCompletion(nodes []completionNode) string {
	var b strings.Builder
	b.WriteString(`# bash completion for meterworker
_meterworker() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local route="" candidates="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$route ${COMP_WORDS[i]}" in
`)
	fmt.Fprintf(&b, "            %s) route=\"$route ${COMP_WORDS[i]}\" ;;\n", routePatterns(nodes, "|"))
	b.WriteString(`        esac
    done
    # "=" is a word of its own to bash.
    if [[ $cur == "=" ]]; then
        cur=""
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case "$route $prev" in
`)
	for _, n := range nodes {
		for _, flag := range n.Flags {
			if !flag.Switch {
				fmt.Fprintf(&b, "        %s) candidates=%s ;;\n", quoteShell(n.Route+" "+flag.Word), quoteShell(strings.Join(flag.Values, " ")))
			}
		}
	}
	b.WriteString("        *) case \"$route\" in\n")
	for _, n := range nodes {
		fmt.Fprintf(&b, "            %s) candidates=%s ;;\n", quoteShell(n.Route), quoteShell(strings.Join(wordsOf(n), " ")))
	}
	b.WriteString(`        esac ;;
    esac
    COMPREPLY=($(compgen -W "$candidates" -- "$cur"))
}
complete -o default -F _meterworker meterworker
`)
	return b.String()
}

func wordsOf(n completionNode) []string {
	var words []string
	for _, w := range append(append([]completionWord{}, n.Commands...), n.Flags...) {
		words = append(words, w.Word)
	}
	return words
}

// zshCompletion does the same with the help of each candidate beside it. The
// route is not called path, which zsh ties to PATH.
func zshCompletion(nodes []completionNode) string {
	var b strings.Builder
	b.WriteString(`#compdef meterworker
_meterworker() {
    local route="" word
    local -a candidates
    for word in "${(@)words[2,CURRENT-1]}"; do
        case "$route $word" in
`)
	fmt.Fprintf(&b, "            %s) route=\"$route $word\" ;;\n", routePatterns(nodes, "|"))
	b.WriteString("        esac\n    done\n    case \"$route ${words[CURRENT-1]}\" in\n")
	for _, n := range nodes {
		for _, flag := range n.Flags {
			if !flag.Switch {
				fmt.Fprintf(&b, "        %s) %s; return ;;\n", quoteShell(n.Route+" "+flag.Word), zshValues(flag.Values))
			}
		}
	}
	b.WriteString("    esac\n    case \"$route\" in\n")
	for _, n := range nodes {
		fmt.Fprintf(&b, "        %s) candidates=(\n", quoteShell(n.Route))
		for _, w := range append(append([]completionWord{}, n.Commands...), n.Flags...) {
			fmt.Fprintf(&b, "            %s\n", quoteShell(w.Word+":"+w.Help))
		}
		b.WriteString("        ) ;;\n")
	}
	b.WriteString(`    esac
    _describe meterworker candidates
}
if [[ ${funcstack[1]} == _meterworker ]]; then
    _meterworker "$@"
else
    compdef _meterworker meterworker
fi
`)
	return b.String()
}

func zshValues(values []string) string {
	if len(values) == 0 {
		return "_files"
	}
	return "compadd -- " + strings.Join(values, " ")
}

// fishCompletion is declarative: each candidate with the route it belongs to.
func fishCompletion(nodes []completionNode) string {
	var b strings.Builder
	b.WriteString(`# fish completion for meterworker
function __meterworker_at
    set -l route ''
    for word in (commandline -opc)[2..]
        switch "$route $word"
`)
	fmt.Fprintf(&b, "            case %s\n", routePatterns(nodes, " "))
	b.WriteString(`                set route "$route $word"
        end
    end
    test "$route" = "$argv[1]"
end
complete -c meterworker -f
`)
	for _, n := range nodes {
		at := "complete -c meterworker -n " + quoteFish("__meterworker_at "+quoteFish(n.Route))
		for _, command := range n.Commands {
			fmt.Fprintf(&b, "%s -a %s -d %s\n", at, command.Word, quoteFish(command.Help))
		}
		for _, flag := range n.Flags {
			fmt.Fprintf(&b, "%s -l %s%s -d %s\n", at, strings.TrimPrefix(flag.Word, "--"), fishValue(flag), quoteFish(flag.Help))
		}
	}
	return b.String()
}

func fishValue(flag completionWord) string {
	switch {
	case flag.Switch:
		return ""
	case len(flag.Values) == 0:
		return " -r -F"
	default:
		return " -x -a " + quoteFish(strings.Join(flag.Values, " "))
	}
}
