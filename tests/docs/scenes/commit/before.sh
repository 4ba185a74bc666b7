builder run --keep work site sh -c '
echo "echo news > /srv/www/news.html" | head -c 27 > /root/.ash_history
rm /etc/httpd.conf
echo "something that happened today 12" > /srv/www/news.html'
