# The pages are clean man(7).
. "$SS_SRC/tests/cli/lib.sh"
need mandoc
for page in "$SS_SRC"/man/*.[1-8]; do
    mandoc -T lint -W warning "$page" >lint 2>&1 || { cat lint; fail "$page"; }
done
