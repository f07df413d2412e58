# usage: zsh -f complete.zsh DIRECTORY OUT LINE
# Writes to OUT what the completion in DIRECTORY offers at the end of LINE, a word for each line: a shell at a terminal
# of its own is given the line and a TAB.
zmodload zsh/zpty
zpty -b shell zsh -f -i
setup=(
  "unset zle_bracketed_paste; COLUMNS=200; LISTMAX=0; setopt nolistbeep nobeep"
  "fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D"
  # What is offered goes through compadd; the function is told what of it fits.
  "compadd() { local -a fits; builtin compadd -O fits \"\$@\"; (( \$#fits )) && print -rl -- \$fits >>${(q)2}; builtin compadd \"\$@\" }"
)
zpty -w shell "${(j:; :)setup}; print REA\"\"DY"
zpty -r shell answer '*READY*'
: >$2
zpty -w -n shell "$3"$'\t'
# The line is not run: to its begin, and it is a comment.
zpty -w shell $'\C-a#\nprint DO""NE'
zpty -r shell answer '*DONE*'
zpty -d shell
