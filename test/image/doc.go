// Package image builds what the container image holds, by the commands that the Dockerfile
// uses, and holds it against what is promised of it: one commit is one binary wherever it is
// built, and the bill of materials is that binary's. It needs no Docker; test/container does.
package image
