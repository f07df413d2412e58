# usage: bash --norc --noprofile complete.bash FILE LINE
# Prints what the completion FILE offers at the end of LINE, a word for each line.
source /usr/share/bash-completion/bash_completion
source "$1"
line=$2
# Words as readline cuts them, with the usual COMP_WORDBREAKS.
COMP_WORDS=() word=
for ((index = 0; index < ${#line}; index++)); do
    char=${line:index:1}
    case $char in
        ' ')
            [[ $word ]] && COMP_WORDS+=("$word")
            word=
            ;;
        [:=])
            [[ $word && $word != [:=]* ]] && COMP_WORDS+=("$word") && word=
            word+=$char
            ;;
        *)
            [[ $word == [:=]* ]] && COMP_WORDS+=("$word") && word=
            word+=$char
            ;;
    esac
done
COMP_WORDS+=("$word")
COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9 COMP_KEY=9 COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
# It is for a completion that readline has asked for.
compopt() { :; }
_seamless_run seamless-run "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
((${#COMPREPLY[@]})) && printf '%s\n' "${COMPREPLY[@]}"
exit 0
