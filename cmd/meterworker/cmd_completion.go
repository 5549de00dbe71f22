package main

import (
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// CompletionCmd prints a completion script made from the same model as the
// parser, so that it knows every command and flag.
type CompletionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help shows how the scripts are loaded.
func (CompletionCmd) Help() string {
	return "Examples:\n\n" +
		"  source <(meterworker completion bash)\n" +
		"  meterworker completion zsh > \"${fpath[1]}/_meterworker\"\n" +
		"  meterworker completion fish > ~/.config/fish/completions/meterworker.fish"
}

// Run prints the script.
func (c CompletionCmd) Run(p *process, parser *kong.Kong) error {
	scripts := map[string]func([]completionNode) string{
		"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion,
	}
	_, err := io.WriteString(p.Out, scripts[c.Shell](completionNodes(parser.Model.Node)))
	return err
}

// completionNode is what can follow one chain of commands.
type completionNode struct {
	Route    string // each command with a space before it; "" at the root
	Commands []completionWord
	Flags    []completionWord
}

// completionWord is a candidate.
type completionWord struct {
	Word, Help string
	Values     []string // what a flag takes; or what an argument may be
	Switch     bool     // a flag without a value
}

// completionNodes lists the visible commands, the root first.
func completionNodes(root *kong.Node) []completionNode {
	var nodes []completionNode
	var visit func(node *kong.Node, route string)
	visit = func(node *kong.Node, route string) {
		nodes = append(nodes, newCompletionNode(node, route))
		for _, child := range node.Children {
			if !child.Hidden {
				visit(child, route+" "+child.Name)
			}
		}
	}
	visit(root, "")
	return nodes
}

func newCompletionNode(node *kong.Node, route string) completionNode {
	n := completionNode{Route: route}
	for _, child := range node.Children {
		if !child.Hidden {
			n.Commands = append(n.Commands, completionWord{Word: child.Name, Help: child.Help})
		}
	}
	for _, positional := range node.Positional {
		for _, value := range enumOf(positional) {
			n.Commands = append(n.Commands, completionWord{Word: value, Help: positional.Help})
		}
	}
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			n.Flags = append(n.Flags, completionWord{
				Word: "--" + flag.Name, Help: flag.Help, Values: enumOf(flag.Value), Switch: flag.IsBool(),
			})
		}
	}
	return n
}

func enumOf(value *kong.Value) []string {
	if choices := splitChoices(value.Tag.Get("choices")); choices != nil {
		return choices
	}
	if value.Enum == "" {
		return nil
	}
	return value.EnumSlice()
}

// routePatterns are the alternatives of a case over every chain but the root.
func routePatterns(nodes []completionNode, separator string) string {
	var routes []string
	for _, n := range nodes {
		if n.Route != "" {
			routes = append(routes, quoteShell(n.Route))
		}
	}
	return strings.Join(routes, separator)
}

// quoteShell quotes for bash and zsh.
func quoteShell(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// quoteFish quotes for fish, where the backslash escapes inside quotes.
func quoteFish(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
